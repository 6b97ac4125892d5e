"""Variational inference: the posterior of a latent variable model by a flow (`flowbench posterior`), and a density
known up to a constant (`flowbench fit-target`).
"""
