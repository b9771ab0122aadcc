"""What tests share: servers, faults, processes, published runs, Prefect's records, a browser."""
