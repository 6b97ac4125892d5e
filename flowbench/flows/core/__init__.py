"""What all flows are made of: the flow itself, and how their files are found."""
