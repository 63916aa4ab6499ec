"""Which photos of the two days show the same.

In: banks of photos. Out: embeddings, content pairs, and gains of patches that look alike.
May use `photos`, `report` and the ground.
"""
