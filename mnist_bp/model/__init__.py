"""The mathematics: parameters, the seven equations, and counter-based random numbers."""
