"""The proxy in front of real LLM servers: what it passes on and charges is what they answer and report themselves."""
