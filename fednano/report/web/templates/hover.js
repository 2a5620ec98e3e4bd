// Tooltips. Without this script the browser shows the <title> texts itself.
(() => {
  const tip = document.getElementById("tip");
  for (const title of document.querySelectorAll("svg title")) {
    title.parentNode.dataset.label = title.textContent;
    title.remove();
  }
  const show = (event, text) => {
    tip.textContent = text;
    tip.style.display = "block";
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 16 + tip.offsetHeight < innerHeight;
    tip.style.left = `${Math.max(8, x)}px`;
    tip.style.top = `${below ? event.clientY + 16 : event.clientY - tip.offsetHeight - 10}px`;
  };
  const hide = () => { tip.style.display = "none"; };

  for (const svg of document.querySelectorAll("svg:not(.curve)")) {
    svg.addEventListener("mousemove", (event) => {
      const label = event.target.dataset?.label;
      label ? show(event, label) : hide();
    });
    svg.addEventListener("mouseleave", hide);
  }
  for (const svg of document.querySelectorAll("svg.curve")) {
    const dots = [...svg.querySelectorAll("circle")];
    const cursor = svg.querySelector(".cursor");
    let near = null;
    const leave = () => {
      near?.classList.remove("near");
      cursor.style.visibility = "hidden";
      hide();
    };
    svg.addEventListener("mousemove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
      const distance = (dot) => Math.abs(dot.cx.baseVal.value - at);
      near?.classList.remove("near");
      near = dots.reduce((best, dot) => (distance(dot) < distance(best) ? dot : best));
      near.classList.add("near");
      cursor.setAttribute("x1", near.cx.baseVal.value);
      cursor.setAttribute("x2", near.cx.baseVal.value);
      cursor.style.visibility = "visible";
      show(event, near.dataset.label);
    });
    svg.addEventListener("mouseleave", leave);
  }
})();
