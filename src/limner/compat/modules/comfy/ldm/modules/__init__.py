"""Parts of networks, as far as packs build with them."""
