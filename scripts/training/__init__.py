"""Parts of the reference model's training: scenes, tasks, tokenizer, model."""
