"""Has it got worse? Runs and times held against a baseline, each with a verdict, and all with one exit code."""
