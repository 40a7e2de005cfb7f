"""The modules that packs import. The file `comfy/utils.py` of this folder is what `import comfy.utils` gives them."""
