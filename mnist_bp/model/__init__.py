"""The mathematics: parameters, seven equations, and counter-based randomness."""
