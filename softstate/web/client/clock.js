/** Seconds since some moment, never going back, that go on while the host sleeps. */

/** The wall clock is believed to tell of sleep if it jumps ahead of the other by more than this. */
const JUMP_MS = 500;

export class Clock {
  /**
   * @param {() => number} steady milliseconds; browsers let it stand still during sleep
   * @param {() => number} wall
   */
  constructor(steady = () => performance.now(), wall = () => Date.now()) {
    this._steady = steady;
    this._wall = wall;
    this._slept = 0;
    this._lead = wall() - steady();
    this._jumped = false;
  }

  /** @returns {number} */
  now() {
    const steady = this._steady();
    const jump = this._wall() - steady - this._lead;
    if (jump > JUMP_MS) {
      this._slept += jump;
      this._jumped = true;
    }
    if (Math.abs(jump) > JUMP_MS) this._lead += jump;
    return (steady + this._slept) / 1000;
  }

  /** Tell whether the host has slept since this was last asked. */
  jumped() {
    this.now();
    const jumped = this._jumped;
    this._jumped = false;
    return jumped;
  }
}
