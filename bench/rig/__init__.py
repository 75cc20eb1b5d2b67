"""The parts of the benchmark: cells, data, clients, peers, rounds and reports."""
