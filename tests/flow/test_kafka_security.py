"""A broker that wants TLS, a name and a password: facts pass, a wrong password or certificate does not."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.kafka.broker import NativeKafka, free_ports
from infra.kafka.bus import KafkaBus
from infra.kafka.classpath import NoNativeKafka
from infra.kafka.security import Security
from infra.kafka.topics import BrokersAway, Cluster, ensure_topics
from infra.memory import MemoryStore
from services.kernel.policies import PolicyRunner
from tests.memory_aside import MemoryAside
from tests.relaying import relaying
from tests.toy import Count, catalog, request, running, service

PASSWORD = "a long password"
JAAS = "org.apache.kafka.common.security.plain.PlainLoginModule required"


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate of 127.0.0.1, and it with its key; return both files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, both = folder / "ca.pem", folder / "broker.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both.write_bytes(private + public.read_bytes())
    return public, both


class SecuredKafka(NativeKafka):
    """A native broker with one more listener, which asks for TLS, a name and a password."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "kafka")
        (self.port,) = free_ports(1)
        self.ca, self._keystore = certificate(folder)

    def _properties(self, number: int, folder: Path) -> dict[str, str]:
        plain = super()._properties(number, folder)
        protocols = plain["listener.security.protocol.map"]
        return {
            **plain,
            "listeners": f"{plain['listeners']},SECURED://127.0.0.1:{self.port}",
            "listener.security.protocol.map": f"{protocols},SECURED:SASL_SSL",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.secured.plain.sasl.jaas.config": f'{JAAS} user_commons="{PASSWORD}";',
            "listener.name.secured.ssl.keystore.type": "PEM",
            "listener.name.secured.ssl.keystore.location": str(self._keystore),
        }


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("secured")
    try:
        broker = SecuredKafka(folder)
    except NoNativeKafka as missing:
        pytest.skip(str(missing))
    try:
        broker.start()
        security = Security("sasl_ssl", broker.ca, "PLAIN", "commons", PASSWORD)
        yield Cluster(f"127.0.0.1:{broker.port}", partitions=2, security=security)
    finally:
        broker.stop()


async def test_facts_pass_a_broker_that_asks_for_tls_and_a_password(secured: Cluster) -> None:
    source, target = MemoryStore("source"), MemoryStore("toy")
    async with (
        running(source, service("source")) as causes,
        running(target, service("toy", "source")) as effects,
        relaying([source], secured),
    ):
        bus = KafkaBus(secured, {"source": source, "toy": target})
        (policy,) = effects.service.policies
        task = asyncio.create_task(PolicyRunner(policy, effects, bus, catalog(), MemoryAside(target)).run())
        for number in range(10):
            await causes.submit(request(Count(f"n{number % 3}"), str(number)))
        async with asyncio.timeout(30):
            while (await target.head()).position < 10:
                await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("wrong", ["password", "certificate"])
async def test_a_wrong_password_or_a_strange_certificate_is_no_way_in(secured: Cluster, wrong: str) -> None:
    changed = (
        replace(secured.security, password="x") if wrong == "password" else replace(secured.security, ca_file=None)
    )
    with pytest.raises(BrokersAway):
        await ensure_topics(replace(secured, security=changed), ["source"])
