"""The command `mnist-bp`: one file per command, and what commands share."""
