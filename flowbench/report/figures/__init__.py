"""The pictures of runs: each its numbers and a Vega-Lite specification, which page and paper draw alike. No torch."""
