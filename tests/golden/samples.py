"""One believable fact of every type, for golden bytes and examples in the docs. Values are fixed for ever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from events import metering, registry, treasury
from events.envelope import Fact
from events.genesis import (
    Backfill,
    BackfillSource,
    Benchmark,
    Board,
    Community,
    Currency,
    Epochs,
    Founder,
    MeteringRules,
    PerformanceTable,
    Pool,
    Project,
    TableEntry,
    Vesting,
)
from events.registry_terms import PublicKey, Wallet
from events.sealing import Place, seal_text
from events.values import identifier, member_id, node_id

DAY: Final = 86_400_000
ZERO: Final = 1_767_225_600_000
"""2026-01-01T00:00:00Z in milliseconds."""

ADA: Final = member_id(b"ada".ljust(32))
BEN: Final = member_id(b"ben".ljust(32))
NODE: Final = node_id(b"node".ljust(32))
DEVICE: Final = f"device/{identifier('sample.device', 'one')}"
LEASE: Final = identifier("sample.lease", "one")
DISPUTE: Final = f"dispute/{identifier('sample.dispute', 'one')}"
CHALLENGE: Final = identifier("sample.challenge", "one")
SHA: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
FACT_ID: Final = "7c1e5a52-0d5e-8c4b-9a3f-2f6f0c8f2d11"
JWS: Final = "eyJhbGciOiJFZERTQSIsImtpZCI6InNhbXBsZSJ9.eyJzYW1wbGUiOnRydWV9.c2lnbmF0dXJl"
KEY: Final = PublicKey("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
NEXT_KEY: Final = PublicKey(
    "YVa0oofeIdhiHm36uxohgD8fZPEiXH-tkvbG8eHyH7s", "dGqyM_Pdla49KtDTy06xQbqKK_e5t-vGX6vM8Y8H6ms"
)
SEALED: Final = seal_text(bytes(32), Place("registry.profile-sealed.v1", "name", ADA), "Ada Lovelace", bytes(12))
LOG_KEY: Final = PublicKey("LVFfay2GhZHVV6SWcCJy-QmSMmlto3NmCSTRS4L94aU", "VJ8eNfsF-LMEgQoHcGeFhpRXl1mOifDOiVsHjWdHK3c")

WALLET: Final = Wallet(
    "0xA460BC027a6c7bE8145a52B49184Ee91Fa37A14b",
    '{"domain":{"chainId":31337,"name":"Golden commons","salt":"0x9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15'
    'd6c15b0f00a08","verifyingContract":"0x0000000000000000000000000000000000000000","version":"1"},"message":{"repla'
    'ces":"","subject":"member/4b6dfab25018ecaca0b50c72431e503b","wallet":"0xA460BC027a6c7bE8145a52B49184Ee91Fa37A14b'
    '"},"primaryType":"WalletPossession","signature":"0x6de7a343cd2c73ceaa4e903f159a9da5881e264413c1f461a95c1a68bd165'
    '068412f4494f2a95980abb3674214b79375f938af2c81f529d99af3240753af6e671c","types":{"EIP712Domain":[{"name":"name","'
    'type":"string"},{"name":"version","type":"string"},{"name":"chainId","type":"uint256"},{"name":"verifyingContrac'
    't","type":"address"},{"name":"salt","type":"bytes32"}],"WalletPossession":[{"name":"subject","type":"string"},{"'
    'name":"wallet","type":"address"},{"name":"replaces","type":"string"}]}}',
)
NEXT_WALLET: Final = Wallet("0x63B66973B8e74009e8bd3D70997Dd2717c33C5d9", WALLET.possession)

TABLE: Final = PerformanceTable(
    work_class="infer",
    version=1,
    reference_model="T4",
    reference=(Benchmark(name="resnet50-offline", throughput="5563.0"),),
    entries=(TableEntry("T4", "1.0000"), TableEntry("A10", "2.3470")),
)

COMMUNITY: Final = Community(
    format="commons.genesis/1",
    name="Golden commons",
    origin="golden.commons.example",
    members=(
        Founder(handle="ada", kind="human", key=KEY, roles=("operator", "steward", "provider", "board-member")),
        Founder(handle="ben", kind="organisation", key=NEXT_KEY, roles=("contributor", "board-member"), guild="vision"),
    ),
    currency=Currency(
        cap="1000000000000000",
        initial_supply="100000000000000",
        emission_per_epoch="10000000000",
        distribution=(
            Pool(name="emission-reserve", share_ppm=550_000),
            Pool(name="backfill-winter", share_ppm=50_000),
            Pool(name="founders", share_ppm=400_000, member="ada", vesting=Vesting()),
        ),
    ),
    epochs=Epochs(zero="2025-01-01T00:00:00Z"),
    performance_tables=(TABLE,),
    board=Board(seats=("ada", "ben"), non_technical=("ben",)),
    projects=(Project(slug="protein-folding", owner="ben", size_class="small", gpu_micro_rgpu_hours="500000000"),),
    backfills=(
        Backfill(
            name="winter",
            start="2025-12-01T00:00:00Z",
            end="2026-01-01T00:00:00Z",
            node_count=1,
            nodes_sha256=SHA,
            sources=(BackfillSource("usage.csv", SHA),),
            fund="5000000000000",
            pool_per_epoch="100000000",
        ),
    ),
    log_keys=(LOG_KEY,),
)

REGISTRY: Final[tuple[tuple[str, Fact], ...]] = (
    ("community", registry.CommunityFounded(COMMUNITY, SHA)),
    (ADA, registry.MemberRegistered(ADA, "ada", "human", KEY)),
    (ADA, registry.RoleGranted(ADA, "provider", JWS)),
    (ADA, registry.RoleRevoked(ADA, "provider", JWS)),
    (ADA, registry.KeyRotated(ADA, KEY.kid, NEXT_KEY, JWS, JWS)),
    (ADA, registry.KeyLinked(ADA, NEXT_KEY, WALLET.possession, JWS)),
    (ADA, registry.WalletLinked(ADA, WALLET, JWS)),
    (ADA, registry.WalletRotated(ADA, WALLET.address, NEXT_WALLET, WALLET.possession)),
    (ADA, registry.WalletUnlinked(ADA, NEXT_WALLET.address, JWS)),
    (ADA, registry.ApiKeyIssued(ADA, "reader-1", SHA, "the dashboard", ZERO + 365 * DAY)),
    (ADA, registry.ApiKeyRevoked(ADA, "reader-1")),
    (ADA, registry.ProfileSealed(ADA, {"contact_email": SEALED, "name": SEALED}, JWS)),
    (ADA, registry.SubjectErased(ADA, JWS)),
    (
        NODE,
        registry.NodeRegistered(
            node=NODE,
            owner=ADA,
            key=KEY,
            zone="IS",
            devices=(registry.Device(DEVICE, "gpu", "T4", 1_000, 15_360),),
            cpu_milli=16_000,
            memory_mib=65_536,
            window=registry.Window(22, 8),
            security_baseline=1,
            no_sensitive_data=True,
            authorization=JWS,
            storage_bytes=500_000_000_000,
            bandwidth_bits_per_second=100_000_000,
            pue_milli=1_150,
            label="under the stairs",
        ),
    ),
    (NODE, registry.NodeVerified(NODE, FACT_ID)),
    (NODE, registry.ChallengesNoted(NODE, {DEVICE: 5}, FACT_ID)),
    (NODE, registry.NodeActivated(NODE)),
    (NODE, registry.NodeSuspended(NODE, "duplicate-device", DEVICE)),
    (NODE, registry.NodeReinstated(NODE, (JWS, JWS), "duplicate-device", "active", DEVICE)),
    (NODE, registry.NodeRetired(NODE, JWS)),
    (NODE, registry.NodeWindowStated(NODE, registry.Window(0, 24), JWS)),
    (NODE, registry.NodeLabelled(NODE, "in the attic")),
    ("table/infer", registry.PerformanceTableAdopted(TABLE, SHA, ZERO + DAY, JWS)),
)

SCORE: Final = metering.NodeScore(
    node=NODE,
    owner=ADA,
    micro_rgpu_hours="733400",
    offered_milli_ms="86400000000",
    allocated_milli_ms="3600000000",
    utilised_milli_ms="3600000000",
    devices=(metering.DeviceScore(DEVICE, "infer", "3600000000", 10_000, 733_400),),
)

METERING: Final[tuple[tuple[str, Fact], ...]] = (
    ("rules", metering.RulesAdopted(1, ZERO - 365 * DAY, DAY, 2 * DAY, 365, MeteringRules())),
    ("rules", metering.TableAdopted(TABLE, SHA, ZERO)),
    (
        "project/protein-folding",
        metering.QuotaGranted("protein-folding", BEN, "vision", "small", "infer", "500000000", "0", "genesis"),
    ),
    (
        "backfill/winter",
        metering.BackfillNamed("winter", ZERO - 31 * DAY, ZERO, 1, SHA, (BackfillSource("usage.csv", SHA),)),
    ),
    ("backfill/winter", metering.BackfillNodesNamed("winter", 0, (NODE,))),
    ("backfill/winter", metering.BackfillOpened("winter")),
    ("backfill/winter", metering.BackfillClosed("winter")),
    (
        "project/protein-folding",
        metering.LeasesOpened(
            project="protein-folding",
            consumer=BEN,
            leases=(
                metering.Lease(
                    lease=LEASE,
                    kind="gpu",
                    node=NODE,
                    owner=ADA,
                    devices=(metering.LeasedDevice(DEVICE, "T4"),),
                    share=1_000,
                    start_ms=ZERO,
                    end_ms=ZERO + 3_600_000,
                    work_class="infer",
                    charged="1000000",
                ),
            ),
            authorization=JWS,
        ),
    ),
    (
        "project/protein-folding",
        metering.LeaseCancelled("protein-folding", LEASE, ZERO + 1_800_000, "500000", JWS),
    ),
    (NODE, metering.NodeAdopted(NODE, ADA, (DEVICE,), registry.Window(8, 20), ZERO // 3_600_000, "DE", 1_200)),
    (NODE, metering.MaintenanceAnnounced(NODE, ZERO // 3_600_000 + 2, 3, JWS)),
    (NODE, metering.HeartbeatHourRecorded(NODE, ADA, ZERO // 3_600_000, "fffffffffffffff", SHA, JWS)),
    (
        NODE,
        metering.ReadingsRecorded(
            NODE, SHA, 7, 1_000, JWS, rejected={"outside-lease": (3, 4)}, late=(0,), conflicts=(9,)
        ),
    ),
    (
        "project/protein-folding",
        metering.ConsumerReadingsRecorded("protein-folding", BEN, SHA, 3, 12, JWS, {"outside-lease": (3,)}),
    ),
    (
        NODE,
        metering.ChallengeResultsRecorded(
            node=NODE,
            owner=ADA,
            challenger=BEN,
            results=(
                metering.ChallengeResult(
                    CHALLENGE, DEVICE, "T4", "infer", "resnet50-offline", "5eed", SHA, ZERO, ZERO + 60_000, "5563.0"
                ),
            ),
            passed=(True,),
            challenger_jws=JWS,
            node_jws=JWS,
        ),
    ),
    (
        NODE,
        metering.StorageChallenged(
            NODE,
            ADA,
            DEVICE,
            LEASE,
            CHALLENGE,
            BEN,
            passed=True,
            start_ms=ZERO,
            end_ms=ZERO + 2_000,
            challenger_jws=JWS,
            node_jws=JWS,
        ),
    ),
    (NODE, metering.OverCapacityDetected(NODE, DEVICE, 365, ZERO, ZERO + 300_000, 1_500)),
    (NODE, metering.ReliabilityChanged(DEVICE, 365, 911_100, 733_400, "a lease was covered less than 95 %", ADA)),
    ("epoch/365", metering.EpochPaged(365, 0, (SCORE,))),
    (
        "epoch/365",
        metering.EpochClosed(
            epoch=365,
            start_ms=ZERO,
            end_ms=ZERO + DAY,
            through_position="123456",
            pages=1,
            root=SHA,
            totals={"gpu": metering.EpochTotals("733400", "3600000000", "3600000000", "86400000000", 1)},
            table_sha256={"infer": SHA},
        ),
    ),
    ("epoch/365", metering.LateUsageScored(365, 367, 0, 1, "733400", (SCORE,))),
    ("epoch/365", metering.ConsumerReadingsWithheld(365, NODE, DEVICE, LEASE, "1800000000")),
    ("epoch/365", metering.HoldbackReleased(365, "gpu", (NODE,))),
    ("epoch/365", metering.HoldbackForfeited(365, "cpu", (NODE,), "failed-challenge")),
    (NODE, metering.UsageDisputed(DISPUTE, NODE, (365, 366), BEN, "its cards were idle", JWS)),
    (NODE, metering.DisputeEnded(DISPUTE, NODE, BEN, "dismissed", JWS)),
)

BOOK: Final = "book/COMPUTE"
PAYOUT: Final = treasury.Posting("epoch/365", ADA, "9800000000")

TREASURY: Final[tuple[Fact, ...]] = (
    treasury.AssetDefined("COMPUTE", 6, "1000000000000000", "10000000000", 20_000, 35, "1000000000"),
    treasury.AccountOpened(ADA, ADA, "member"),
    treasury.AccountClosed("epoch/365"),
    treasury.SupplyMinted("epoch/365", "10000000000", "emission", 365),
    treasury.SupplyBurned(ADA, "1000000", JWS),
    treasury.TransactionPosted(
        f"transaction/{identifier('sample.transaction', 'one')}",
        (treasury.Posting(ADA, BEN, "2500000"),),
        memo="for the cables",
        effective_ms=ZERO,
        metadata={"invoice": "2026-001"},
        authorization=JWS,
    ),
    treasury.FundOpened("winter", "fund/winter", "100000000"),
    treasury.EpochScoresNoted(365, 0, FACT_ID, (treasury.ScoredNode(NODE, ADA, "733400"),)),
    treasury.EpochPoolFunded(345, (treasury.Posting("fund/winter", "epoch/345", "100000000"),), "100000000"),
    treasury.RewardsPaid(365, 0, (NODE,), (PAYOUT,)),
    treasury.EpochSettled(
        epoch=365,
        closed_fact=FACT_ID,
        pool="10000000000",
        paid="9800000000",
        late_reserve="200000000",
        kept="0",
        rate_numerator="9800000000",
        rate_denominator="733400",
        gate="ungated",
        postings=(treasury.Posting("epoch/365", "late-reserve/365", "200000000"),),
    ),
    treasury.LateScoresNoted(365, 367, 0, 1, FACT_ID, (treasury.ScoredNode(NODE, ADA, "733400"),)),
    treasury.LateRewardsPaid(365, FACT_ID, (NODE,), (treasury.Posting("late-reserve/365", ADA, "1000000"),), "ungated"),
    treasury.LateReserveReleased(365, (treasury.Posting("late-reserve/365", "pool/emission-reserve", "199000000"),)),
    treasury.HoldbackPaid(
        365,
        "gpu",
        FACT_ID,
        (NODE,),
        (treasury.NodeReward(NODE, ADA, "980000000"),),
        (treasury.Posting("holdback/365", ADA, "980000000"),),
        "ungated",
    ),
    treasury.HoldbackForfeitBooked(
        365,
        "cpu",
        FACT_ID,
        (NODE,),
        (treasury.NodeReward(NODE, ADA, "140000000"),),
        (treasury.Posting("holdback/365", "treasury/forfeits", "140000000"),),
    ),
)


def samples() -> Mapping[str, tuple[str, Fact]]:
    """Return stream and fact of every sample, by type; asserts that no type has two."""
    pairs = (*REGISTRY, *METERING, *((BOOK, fact) for fact in TREASURY))
    found = {fact.TYPE: (stream, fact) for stream, fact in pairs}
    assert len(found) == len(pairs), "a type has two samples"
    return found
