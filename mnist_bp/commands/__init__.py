"""The command `mnist-bp`: its commands, and what they share."""
