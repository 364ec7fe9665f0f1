"""What the attention blocks cost, measured against their published formulations."""
