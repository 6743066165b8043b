"""Training and scoring of the LoRA adapters and heads over the shared base encoder."""
