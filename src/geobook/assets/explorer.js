(function (id) {
  "use strict";
  function start(root) {
    if (root.hasAttribute("data-ready")) return;
    var data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    var inputs = Array.from(root.querySelectorAll("input"));
    var outputs = Array.from(root.querySelectorAll("output"));
    var picture = root.querySelector(".picture");
    var lines = Array.from(picture.querySelectorAll("path[data-line]"));
    var shown = root.querySelector(".shown b");
    var button = root.querySelector("button");
    var timer = null;
    if (data.pictures) data.pictures[data.inline] = picture.getAttribute("src");

    function show() {
      var state = 0;
      inputs.forEach(function (input, axis) {
        var texts = data.texts[axis];
        var text = texts[+input.value];
        state = state * texts.length + +input.value;
        input.setAttribute("aria-valuetext", text);
        if (outputs[axis].textContent !== text) outputs[axis].textContent = text;
      });
      var frame = data.frames[state];
      if (data.pictures) {
        picture.src = data.pictures[frame];
        picture.alt = data.alts[state];
      } else {
        lines.forEach(function (line, k) { line.setAttribute("d", data.paths[frame[k]]); });
        picture.setAttribute("aria-label", data.alts[state]);
      }
      shown.textContent = inputs.map(function (input, axis) {
        return data.labels[axis] + " = " + data.texts[axis][+input.value];
      }).join(", ");
    }
    function move(input, to) {
      input.value = Math.max(0, Math.min(+input.max, to));
      show();
    }
    inputs.forEach(function (input) {
      input.addEventListener("input", function () { pause(); show(); });
      // Notebook applications take the arrow keys for themselves: answer them here and stop them.
      input.addEventListener("keydown", function (event) {
        if (event.altKey || event.ctrlKey || event.metaKey) return;
        var now = +input.value, last = +input.max, leap = Math.max(1, Math.round(last / 5));
        var to = {
          ArrowRight: now + 1, ArrowUp: now + 1, ArrowLeft: now - 1, ArrowDown: now - 1,
          Home: 0, End: last, PageUp: now + leap, PageDown: now - leap
        }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        event.stopPropagation();
        pause();
        move(input, to);
      });
    });

    function pause() {
      if (timer === null) return;
      clearInterval(timer);
      timer = null;
      button.setAttribute("aria-pressed", "false");
      outputs.forEach(function (output) { output.setAttribute("aria-live", "polite"); });
    }
    function play() {
      var first = inputs[0];
      if (+first.value === +first.max) move(first, 0);
      button.setAttribute("aria-pressed", "true");
      outputs.forEach(function (output) { output.setAttribute("aria-live", "off"); });
      timer = setInterval(function () {
        if (!root.isConnected || +first.value === +first.max) pause();
        else move(first, +first.value + 1);
      }, 700);
    }
    if (button) {
      var still = window.matchMedia("(prefers-reduced-motion: reduce)");
      var heed = function () { button.hidden = still.matches; if (still.matches) pause(); };
      still.addEventListener("change", heed);
      heed();
      button.addEventListener("click", function () { if (timer === null) play(); else pause(); });
    }
    root.setAttribute("data-ready", "");
    show();
  }
  document.querySelectorAll("[data-explorer='" + id + "']").forEach(start);
})
