"""Variational inference by flows: posteriors of latent variable models, and densities known up to a constant."""
