"""What scripts/experiments.py is made of: settings, cached runs of qvlm, statistics, one module per question."""
