import comfy.of_tomorrow
