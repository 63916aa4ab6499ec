"""The flagship recipe: a grid of gains, fitted to what the photos of both days say about each place.

In: photos with guidance or with measured gains. Out: a recipe for `fit`.
May use `fit`, `guidance`, `pairs`, `photos` and the ground; not `gan`.
"""
