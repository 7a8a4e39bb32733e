import unittest

from roman import to_roman


class RomanTest(unittest.TestCase):
    def test_adds(self):
        self.assertEqual(to_roman(1), "I")
        self.assertEqual(to_roman(8), "VIII")
        self.assertEqual(to_roman(1666), "MDCLXVI")

    def test_takes_away(self):
        for number, roman in ((4, "IV"), (9, "IX"), (40, "XL"), (1994, "MCMXCIV")):
            with self.subTest(number=number):
                self.assertEqual(to_roman(number), roman)

    def test_refuses_what_has_no_roman_form(self):
        for number in (0, -1, 4000):
            with self.subTest(number=number), self.assertRaises(ValueError):
                to_roman(number)


if __name__ == "__main__":
    unittest.main()
