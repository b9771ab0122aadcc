"""What a script needs to run a flow on Prefect: a server, signals, crashed runs, notifications."""
