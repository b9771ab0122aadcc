"""What surrounds the flows on Prefect: hooks, notifications, crashed runs, and what a script needs to run a flow."""
