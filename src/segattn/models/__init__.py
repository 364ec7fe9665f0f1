"""Attention, the heads made of it, encoders, and the network of both."""
