"""Attention equations, heads, encoders, and the network built from them."""
