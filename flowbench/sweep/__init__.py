"""Many runs: a grid of orders, carried out side by side on one machine or on many. No torch in what conducts them."""
