import os

import folder_paths

folder_paths.add_model_folder_path("classic_things", os.path.join(os.path.dirname(__file__), "things"))
