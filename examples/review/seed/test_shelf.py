import tempfile
import unittest
from pathlib import Path

from shelf import Shelf


class ShelfTest(unittest.TestCase):
    def test_a_note_is_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            Shelf(folder).put("tea", "black")
            self.assertEqual((Path(folder) / "tea.txt").read_text(), "black")

    def test_a_name_cannot_lead_elsewhere(self):
        with tempfile.TemporaryDirectory() as folder, self.assertRaises(ValueError):
            Shelf(folder).put("../tea", "black")


if __name__ == "__main__":
    unittest.main()
