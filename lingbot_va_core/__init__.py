"""LingBot-VA without ROS: the model, the closed loop, and what a robot needs around them."""

__version__ = '0.1.0'
