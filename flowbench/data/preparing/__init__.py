"""What several datasets do alike: columns dropped and standardised, pixels and patches, draws from known densities."""
