import unittest

from temperature import to_celsius, to_fahrenheit


class TemperatureTest(unittest.TestCase):
    def test_water_freezes(self) -> None:
        self.assertEqual(to_fahrenheit(0), 32)

    def test_water_boils(self) -> None:
        self.assertEqual(to_fahrenheit(100), 212)

    def test_there_and_back(self) -> None:
        for celsius in (-40, 0, 37, 100):
            self.assertAlmostEqual(to_celsius(to_fahrenheit(celsius)), celsius)


if __name__ == "__main__":
    unittest.main()
