"""``flowbench report``: a folder of results as one page that needs nothing but a browser. No torch."""
