"""The commands of mnist-bp."""
