"""What crosses rooms: kills, disks, races, secrets."""
