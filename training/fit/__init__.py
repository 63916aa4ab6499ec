"""Fits any recipe and writes its look.

In: a recipe, and photos as batches. Out: checkpoints, previews, metrics, and a look compared with torch.
May use `guidance`, `pairs`, `photos`, `report` and the ground; never a recipe.
"""
