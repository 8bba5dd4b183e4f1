"""Our JWS and thumbprints against the vectors of RFC 8037 (appendix A), which nobody here wrote."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.kernel.errors import AuthenticationFailed
from services.kernel.jws import Jws, b64, parse_jws, public_key, raw_public, sign_jws, thumbprint, unb64

PRIVATE = Ed25519PrivateKey.from_private_bytes(unb64("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))
PUBLIC_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
A4_JWS = (
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)


def test_appendix_a2_the_public_key_of_the_private_one() -> None:
    assert b64(raw_public(PRIVATE)) == PUBLIC_X


def test_appendix_a3_the_thumbprint_is_the_key_id() -> None:
    assert thumbprint(unb64(PUBLIC_X)) == THUMBPRINT
    assert public_key(unb64(PUBLIC_X)).kid == THUMBPRINT


def test_appendix_a5_the_signature_of_the_rfc_verifies() -> None:
    payload, signature = (unb64(part) for part in A4_JWS.split(".")[1:])
    Jws(A4_JWS, THUMBPRINT, payload, signature).verify(unb64(PUBLIC_X))
    assert payload == b"Example of Ed25519 signing"


def test_a_changed_signature_of_the_rfc_does_not_verify() -> None:
    payload, signature = (unb64(part) for part in A4_JWS.split(".")[1:])
    wrong = bytes([signature[0] ^ 1]) + signature[1:]
    with pytest.raises(AuthenticationFailed, match="does not verify"):
        Jws(A4_JWS, THUMBPRINT, payload, wrong).verify(unb64(PUBLIC_X))


def test_the_rfcs_example_has_no_key_id_so_it_is_no_jws_of_ours() -> None:
    with pytest.raises(AuthenticationFailed, match="kid"):
        parse_jws(A4_JWS)


def test_what_we_sign_has_the_form_of_the_rfc_and_verifies() -> None:
    text = sign_jws(PRIVATE, THUMBPRINT, b"Example of Ed25519 signing")
    header, payload, _ = text.split(".")
    assert unb64(header) == b'{"alg":"EdDSA","kid":"%s"}' % THUMBPRINT.encode()
    assert payload == A4_JWS.split(".")[1]
    parse_jws(text).verify(unb64(PUBLIC_X))
