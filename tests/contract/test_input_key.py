"""A database belongs to the secret it was begun with."""

from __future__ import annotations

import asyncio

import pytest

from infra.postgres.input_key import OtherHome, bind_input_key
from infra.postgres.pool import open_pool


async def test_a_database_is_opened_again_with_its_own_key_and_with_no_other(database: str) -> None:
    pool = await open_pool(database)
    try:
        await asyncio.gather(*(bind_input_key(pool, b"key") for _ in range(4)))
        with pytest.raises(OtherHome, match=r"keys/inputs\.key"):
            await bind_input_key(pool, b"other")
        await bind_input_key(pool, b"key")
    finally:
        await pool.close()
