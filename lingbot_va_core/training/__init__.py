"""Training: the video VAE, and the world model on recorded episodes."""
