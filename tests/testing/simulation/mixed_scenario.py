"""A scenario with many kinds of faults: ``python mixed_scenario.py SEED`` prints the digest of its trace."""

import sys

from softstate.testing import FrameRule, World, run_world


async def scenario(world: World) -> None:
    faults, random = world.faults, world.seeds.random("story")
    for name, codec in (("a", "cbor"), ("b", "json"), ("c", "cbor")):
        await world.client(name, "t/", codec=codec, push=name != "c")  # type: ignore[arg-type]
    for step in range(60):
        publisher = world.clients[random.choice("abc")]
        publisher.publish(f"t/{random.randrange(5)}", step)
        match step:
            case 5:
                faults.split("n1", "a", 5)
                faults.backup("early")
            case 10:
                faults.crash_at("n1", "publish.after_commit")
            case 20:
                await faults.restart("n1")
            case 22:
                faults.freeze("n2")
            case 25:
                faults.thaw("n2")
                faults.frames(FrameRule("drop", "notify", share=0.5, times=5))
            case 30:
                faults.half_open("a", "n1")
                faults.amnesia("n2", 0.5)
            case 40:
                faults.rewind("early", advance=3)
            case 45:
                faults.stall("n2", "b")
        await world.sleep(random.expovariate(1 / 3))
    await faults.heal()
    await world.sleep(100)


if __name__ == "__main__":
    print(run_world(int(sys.argv[1]), scenario, record_messages=True).trace.digest())
