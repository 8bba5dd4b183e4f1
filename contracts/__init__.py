"""On chain: Solidity sources and compiled artifacts. Only `infra` reads them; the anchor brings the first contract."""
