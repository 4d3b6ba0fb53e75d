"""Take a trained network out into the world: prediction from files and arrays.

May import errors, spec, container, bundle, `data.prepare` and `data.readers`: serving needs no
trainer.
"""
