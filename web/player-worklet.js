/** The audio thread: a {@link Performer} that is called for every block. */

import { Performer } from "./performer.js";

class PlayerProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.performer = new Performer(this.port, sampleRate, () => currentTime);
  }

  process(_inputs, [[left, right = new Float32Array(left.length)]]) {
    this.performer.perform(left, right);
    return true;
  }
}

registerProcessor("twostep-player", PlayerProcessor);
