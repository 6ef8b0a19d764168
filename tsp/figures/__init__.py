"""The style of all figures, the paper's figures, interactive figures."""
