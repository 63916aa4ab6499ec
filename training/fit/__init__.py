"""Fits any recipe and writes its look.

In: a recipe, with photos as batches. Out: checkpoints, previews, metrics, and a look proved equal to torch.
May use `guidance`, `pairs`, `photos`, `report` and the ground; never a recipe.
"""
