"""Vision-language models: image and text in one space, prompts that can be learned."""
