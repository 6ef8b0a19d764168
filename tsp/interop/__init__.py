"""PEFT, transformers' Trainer and scikit-learn."""
