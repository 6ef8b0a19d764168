"""Many soft prompts on one frozen model: specification, prompts, attention, checks, trainer."""
