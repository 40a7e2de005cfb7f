from comfy.utils import something_of_tomorrow
