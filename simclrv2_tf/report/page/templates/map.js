"use strict";
for (const map of document.querySelectorAll(".map")) {
  const plane = map.querySelector(".plane");
  const tip = plane.querySelector(".tip");
  const side = Number(map.dataset.side);
  const columns = Number(map.dataset.columns);
  let shown = null;

  // The title of a point would cover the tip that shows the same with the image.
  for (const point of plane.querySelectorAll("circle")) {
    const title = point.querySelector("title");
    point.dataset.text = title.textContent;
    title.remove();
  }

  function hide() {
    shown?.classList.remove("at");
    shown = null;
    tip.hidden = true;
  }

  function show(point) {
    if (point === shown) return;
    hide();
    shown = point;
    point.classList.add("at");
    const index = Number(point.dataset.index);
    const corner = [(index % columns) * side, Math.floor(index / columns) * side];
    tip.querySelector("svg").setAttribute("viewBox", `${corner[0]} ${corner[1]} ${side} ${side}`);
    tip.querySelector("span").textContent = point.dataset.text;
    tip.hidden = false;
    const frame = plane.getBoundingClientRect();
    const at = point.getBoundingClientRect();
    const left = at.left - frame.left + at.width;
    const fits = left + tip.offsetWidth + 8 <= frame.width;
    const beside = fits ? left + 8 : at.left - frame.left - tip.offsetWidth - 8;
    const top = at.top - frame.top - tip.offsetHeight / 2;
    tip.style.left = `${Math.max(0, Math.min(beside, frame.width - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, Math.min(top, frame.height - tip.offsetHeight))}px`;
  }

  // The nearest point within a finger's width.
  function nearest(event) {
    let best = null;
    let least = 14 ** 2;
    for (const group of plane.querySelectorAll("g:not(.aside)")) {
      for (const point of group.children) {
        const box = point.getBoundingClientRect();
        const x = box.left + box.width / 2 - event.clientX;
        const y = box.top + box.height / 2 - event.clientY;
        if (x * x + y * y < least) {
          least = x * x + y * y;
          best = point;
        }
      }
    }
    return best;
  }

  for (const kind of ["pointermove", "pointerdown"]) {
    plane.addEventListener(kind, (event) => {
      const point = nearest(event);
      if (point) show(point);
      else hide();
    });
  }
  plane.addEventListener("pointerleave", hide);

  for (const button of map.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const alone = button.getAttribute("aria-pressed") !== "true";
      for (const other of map.querySelectorAll(".legend button")) {
        other.setAttribute("aria-pressed", String(alone && other === button));
      }
      for (const group of plane.querySelectorAll("g")) {
        group.classList.toggle("aside", alone && group.dataset.group !== button.dataset.group);
      }
      hide();
    });
  }
}
