"""The tools of the base skill over a room: files, commands, processes. Not the room itself."""

from services.sandbox.tools.box import BaseToolBox as BaseToolBox
